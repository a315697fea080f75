//! RADIUS packets, attributes and the server and client state machines, without any I/O.
