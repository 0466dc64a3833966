"""The Cloud Function: built and deployed."""
