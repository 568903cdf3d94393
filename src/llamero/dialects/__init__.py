"""The APIs that we speak: each module reads request bodies into `messages` and writes events back as bytes. Pure."""
