"""Claims of papers, our answers, and verdicts on their agreement."""
