"""Images and spans: batches, labels, reviews, the preparation of spans and the windows over them."""
