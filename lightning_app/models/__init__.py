"""Model folders: where they are, their fingerprints, the bundled encoder, the model card and the export."""
