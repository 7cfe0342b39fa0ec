"""What papers print, what our rows answer, and whether the two agree."""
