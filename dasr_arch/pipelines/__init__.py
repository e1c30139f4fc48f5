"""What train.py and test.py call."""
