"""What makes an archive whole again: the start after any end, and what lies on every element."""
