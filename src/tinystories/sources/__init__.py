"""Stage `download`: where the stories come from."""
