"""What is done when files are read: older versions are upgraded, and contents validated. Start with ``validation``."""
