"""What a run would be, would cost, and what is wrong with it, before any weight is loaded."""
