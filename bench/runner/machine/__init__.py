"""Read facts about the machine and the checkout, and lock a GPU."""
