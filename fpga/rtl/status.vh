// Operations and statuses of the ring ABI (docs/offload-abi.md, fpga/include/ironlane_offload.h).
`ifndef IRONLANE_STATUS_VH
`define IRONLANE_STATUS_VH
`define OP_NOP 16'd0
`define OP_RECOVER 16'd1
`define OP_KECCAK 16'd2
`define STATUS_OK 16'd0
`define STATUS_BAD_PARITY 16'd1
`define STATUS_BAD_R 16'd2
`define STATUS_BAD_S 16'd3
`define STATUS_HIGH_S 16'd4
`define STATUS_NO_KEY 16'd5
`define STATUS_MALFORMED 16'd16
`define STATUS_STALE_EPOCH 16'd17
`define STATUS_BAD_OP 16'd18
`define STATUS_BAD_FLAGS 16'd19
`define STATUS_BAD_LENGTH 16'd20
`define FLAG_ANY_S 16'h0001
`endif
