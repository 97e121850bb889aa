"""What turns knobs by itself: pure laws that decide, and one loop that reads, bounds, moves and says so."""
