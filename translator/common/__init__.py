"""What both directions need: tools, sealed reasoning, schemas, JSON text, invalid requests."""
