"""Side-by-side comparisons with peers. They may use alpine; alpine never uses them."""
