"""Processes in which strangers' files are decoded, with limits, and which can be killed."""
