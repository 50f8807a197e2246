"""Real clients on the real service and a scripted chat-only upstream."""
