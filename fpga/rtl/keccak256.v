// Keccak-256 as Ethereum has it (padding 0x01 … 0x80, rate 136 bytes) of messages that fit BLOCKS_MAX blocks, that is up to
// 136·BLOCKS_MAX − 1 bytes.
//
// In:  byte i of the message at bit 8·i of `in_message`; what lies past `in_bytes` is ignored. Taken when `in_valid` and
//      `in_ready`; `in_side` travels along. A length that does not fit is a caller's error and hashes as the longest that does.
// Out: byte i of the digest at bit 8·i, held while `out_valid` until `out_ready`. Short messages overtake long ones.
//
// A state that leaves the permutation with blocks to come is put in again at once with the next block. The permutation moves as
// a whole, so a message meets the same number `turn` each time it comes round, and that number is where its blocks are kept.
`default_nettype none
module keccak256 #(
    parameter BLOCKS_MAX = 4,
    parameter ROUNDS_PER_STAGE = 1,
    parameter FOLDED = 0,
    parameter SIDE_BITS = 1,
    parameter LENGTH_BITS = 10
) (
    input  wire                        clk,
    input  wire                        rst,
    input  wire                        in_valid,
    output wire                        in_ready,
    input  wire [1088*BLOCKS_MAX-1:0]  in_message,
    input  wire [LENGTH_BITS-1:0]      in_bytes,
    input  wire [SIDE_BITS-1:0]        in_side,
    output wire                        out_valid,
    input  wire                        out_ready,
    output wire [255:0]                out_digest,
    output wire [SIDE_BITS-1:0]        out_side
);
    localparam RATE = 1088;
    localparam BYTES_MAX = 136 * BLOCKS_MAX - 1;
    localparam TURNS = FOLDED != 0 ? 1 : 24 / ROUNDS_PER_STAGE;
    localparam BLOCK_BITS = 4;
    localparam CORE_SIDE = SIDE_BITS + 2 * BLOCK_BITS;

    // Padding.
    wire [31:0] asked = {{(32-LENGTH_BITS){1'b0}}, in_bytes};
    wire [31:0] bytes = asked > BYTES_MAX ? BYTES_MAX : asked;
    reg [BLOCK_BITS-1:0] last;  // index of the last block, padding included
    integer k;
    always @* begin
        last = {BLOCK_BITS{1'b0}};
        for (k = 1; k < BLOCKS_MAX; k = k + 1) if (bytes >= 136 * k) last = k[BLOCK_BITS-1:0];
    end
    wire [RATE*BLOCKS_MAX-1:0] padded;
    genvar i;
    generate
        for (i = 0; i < 136 * BLOCKS_MAX; i = i + 1) begin : pad
            wire ends = i % 136 == 135 && {{(32-BLOCK_BITS){1'b0}}, last} == i / 136;
            assign padded[8*i +: 8] = (bytes > i ? in_message[8*i +: 8] : bytes == i ? 8'h01 : 8'h00)
                                    | (ends ? 8'h80 : 8'h00);
        end
    endgenerate

    // The permutation, and where a message's blocks wait.
    wire core_in_ready, core_out_valid;
    wire [1599:0] core_out;
    wire [SIDE_BITS-1:0] side;
    wire [BLOCK_BITS-1:0] block_last, block;  // of the state that leaves
    wire more = core_out_valid && block != block_last;
    wire moves = core_in_ready;
    wire takes = in_valid && in_ready;
    assign in_ready = core_in_ready && !more;
    reg [4:0] turn;
    always @(posedge clk) begin
        if (rst) turn <= 5'd0;
        else if (moves) turn <= turn == TURNS - 1 ? 5'd0 : turn + 1'b1;
    end

    wire [RATE-1:0] next_block;
    generate
        if (BLOCKS_MAX > 1) begin : several
            reg [RATE*(BLOCKS_MAX-1)-1:0] waiting [0:31];
            wire [RATE*(BLOCKS_MAX-1)-1:0] mine = waiting[turn];
            wire [RATE*(BLOCKS_MAX-1)-1:0] shifted = mine >> (RATE * block);
            assign next_block = shifted[RATE-1:0];
            always @(posedge clk) if (takes) waiting[turn] <= padded[RATE*BLOCKS_MAX-1:RATE];
        end else begin : single
            assign next_block = {RATE{1'b0}};
        end
    endgenerate

    keccak_f1600 #(.ROUNDS_PER_STAGE(ROUNDS_PER_STAGE), .FOLDED(FOLDED), .SIDE_BITS(CORE_SIDE)) permutation (
        .clk(clk), .rst(rst),
        .in_valid(more || in_valid), .in_ready(core_in_ready),
        .in_state(more ? core_out ^ {512'b0, next_block} : {512'b0, padded[RATE-1:0]}),
        .in_side(more ? {side, block_last, block + 1'b1} : {in_side, last, {BLOCK_BITS{1'b0}}}),
        .out_valid(core_out_valid), .out_ready(more || out_ready),
        .out_state(core_out), .out_side({side, block_last, block})
    );
    assign out_valid = core_out_valid && !more;
    assign out_digest = core_out[255:0];
    assign out_side = side;
endmodule
`default_nettype wire
