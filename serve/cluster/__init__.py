"""The Ray actors of one served store, and what they say of its state."""
