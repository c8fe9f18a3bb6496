"""The store of the bus: tables, the writer, the reading side; engines differ in one file each."""
