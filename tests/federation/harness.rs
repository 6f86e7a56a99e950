//! The network of the tests itself: what it counts, and that nothing of it stays.
