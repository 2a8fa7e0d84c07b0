// The permutation Keccak-f[1600] (FIPS 202), in one of two builds:
//   FOLDED = 0   24 / ROUNDS_PER_STAGE stages in a pipeline: one permutation a clock;
//   FOLDED = 1   one stage, used again and again: one permutation in 24 / ROUNDS_PER_STAGE clocks, and one more to load.
// ROUNDS_PER_STAGE divides 24; it trades registers for the length of a clock.
//
// In: a state, taken when `in_valid` and `in_ready`; `in_side` travels along. Out: held while `out_valid` until `out_ready`, in
// order. The pipeline moves as a whole: while an answer waits, all of it waits.
`default_nettype none
module keccak_f1600 #(
    parameter ROUNDS_PER_STAGE = 1,
    parameter FOLDED = 0,
    parameter SIDE_BITS = 1
) (
    input  wire                 clk,
    input  wire                 rst,
    input  wire                 in_valid,
    output wire                 in_ready,
    input  wire [1599:0]        in_state,
    input  wire [SIDE_BITS-1:0] in_side,
    output wire                 out_valid,
    input  wire                 out_ready,
    output wire [1599:0]        out_state,
    output wire [SIDE_BITS-1:0] out_side
);
    localparam STAGES = 24 / ROUNDS_PER_STAGE;
    generate
        if (STAGES * ROUNDS_PER_STAGE != 24) begin : rounds_do_not_divide
            ROUNDS_PER_STAGE_must_divide_24 error();
        end
    endgenerate

    // Constants of ι, round 23 first.
    localparam [24*64-1:0] IOTA = {
        64'h8000000080008008, 64'h0000000080000001, 64'h8000000000008080, 64'h8000000080008081,
        64'h800000008000000A, 64'h000000000000800A, 64'h8000000000000080, 64'h8000000000008002,
        64'h8000000000008003, 64'h8000000000008089, 64'h800000000000008B, 64'h000000008000808B,
        64'h000000008000000A, 64'h0000000080008009, 64'h0000000000000088, 64'h000000000000008A,
        64'h8000000000008009, 64'h8000000080008081, 64'h0000000080000001, 64'h000000000000808B,
        64'h8000000080008000, 64'h800000000000808A, 64'h0000000000008082, 64'h0000000000000001
    };

    genvar i, j;
    generate
        if (FOLDED == 0) begin : pipelined
            wire advance = !out_valid || out_ready;
            assign in_ready = advance;
            for (i = 0; i < STAGES; i = i + 1) begin : stage
                wire [1599:0] from;
                wire [SIDE_BITS-1:0] side_from;
                wire valid_from;
                if (i == 0) begin : first
                    assign from = in_state;
                    assign side_from = in_side;
                    assign valid_from = in_valid;
                end else begin : later
                    assign from = stage[i-1].state;
                    assign side_from = stage[i-1].side;
                    assign valid_from = stage[i-1].valid;
                end
                wire [1600*(ROUNDS_PER_STAGE+1)-1:0] chain;
                assign chain[1599:0] = from;
                for (j = 0; j < ROUNDS_PER_STAGE; j = j + 1) begin : round
                    keccak_round r (
                        .state(chain[1600*j +: 1600]),
                        .constant(IOTA[64*(i*ROUNDS_PER_STAGE+j) +: 64]),
                        .next(chain[1600*(j+1) +: 1600])
                    );
                end
                reg [1599:0] state;
                reg [SIDE_BITS-1:0] side;
                reg valid;
                always @(posedge clk) begin
                    if (advance) begin
                        state <= chain[1600*ROUNDS_PER_STAGE +: 1600];
                        side <= side_from;
                        valid <= valid_from;
                    end
                    if (rst) valid <= 1'b0;
                end
            end
            assign out_valid = stage[STAGES-1].valid;
            assign out_state = stage[STAGES-1].state;
            assign out_side = stage[STAGES-1].side;
        end else begin : folded
            reg [1599:0] state;
            reg [SIDE_BITS-1:0] side;
            reg [4:0] left;  // stages still to do
            reg busy;
            wire [1600*(ROUNDS_PER_STAGE+1)-1:0] chain;
            assign chain[1599:0] = state;
            for (j = 0; j < ROUNDS_PER_STAGE; j = j + 1) begin : round
                wire [4:0] number = 5'd24 - left * ROUNDS_PER_STAGE + j;
                wire [24*64-1:0] shifted = IOTA >> {number, 6'b0};
                keccak_round r (
                    .state(chain[1600*j +: 1600]), .constant(shifted[63:0]), .next(chain[1600*(j+1) +: 1600])
                );
            end
            assign out_valid = busy && left == 5'd0;
            assign in_ready = !busy || (out_valid && out_ready);
            assign out_state = state;
            assign out_side = side;
            always @(posedge clk) begin
                if (in_ready) begin
                    state <= in_state;
                    side <= in_side;
                    left <= STAGES;
                    busy <= in_valid;
                end else if (left != 5'd0) begin
                    state <= chain[1600*ROUNDS_PER_STAGE +: 1600];
                    left <= left - 1'b1;
                end
                if (rst) busy <= 1'b0;
            end
        end
    endgenerate
endmodule
`default_nettype wire
