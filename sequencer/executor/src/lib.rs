//! EVM execution: chain spec, blocks, receipts and conformance.
