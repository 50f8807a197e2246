"""What real engines answered, replayed."""
