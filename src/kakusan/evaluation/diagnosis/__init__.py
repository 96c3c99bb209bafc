"""Diagnosis of a run in four questions, a file each: is it broken, is it done, does it copy, are the colours right?"""
