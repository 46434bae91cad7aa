"""Stage `download`: the official stories, the embedded ones, or the user's own."""
