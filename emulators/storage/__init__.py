"""Object storage on the loopback interface, over the protocol of Google Cloud Storage."""
