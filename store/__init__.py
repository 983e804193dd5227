"""Where bytes live: objects, sealing, data keys, packs, blobs."""
