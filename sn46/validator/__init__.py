"""The validator: what was uploaded, checked, scored, published and paid."""
