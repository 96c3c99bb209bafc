"""Settings: the typed tree, its TOML files and presets, and every "auto" answered."""
