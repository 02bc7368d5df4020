"""Getting certificates: for now from an authority of a lab's own."""
