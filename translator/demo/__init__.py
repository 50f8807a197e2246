"""The demo: the main job at work, with no key and no network."""
