//! Ingest framing, io_uring server and the client library.
