"""Baskets and prices."""
