"""What every room of the service may use and what uses none of them."""
