"""The server: an API and a page on which one watches texts form."""
