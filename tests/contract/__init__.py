"""One suite that every driver passes, and the small laboratory that it works in."""
