//! Blocks, transactions and receipts, by number and by hash.
