"""Tests that start real servers and processes. `make unit` leaves them out."""
