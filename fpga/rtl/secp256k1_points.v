// Q = u1·G + u2·R for the curve point R with x = r and the given parity of y, in affine coordinates; or the news that there is
// no such R or that Q is the point at infinity.
//
// A barrel processor: CONTEXTS recoveries take turns, one word of microcode each a turn, on one fully pipelined multiply-add
// modulo p (secp256k1_mac.v). CONTEXTS exceeds the pipeline's depth, so a word's result is written before its context's next
// turn: there are no hazards, no stalls and no forwarding, and the multiplier works in every clock in which a context is busy.
// One recovery takes (words executed) × CONTEXTS clocks; full, the engine finishes one every (words executed) clocks.
//
// In:  u1 < n, 0 < u2 < n, 0 < r < n, taken when `in_valid` and `in_ready`; they must be held until then. `in_side` travels
//      along. Out: held while `out_valid` until `out_ready`, in whatever order recoveries finish.
//
// A word (fields in microcode.vh, program in microcode.py):
//   dst, write          where the result goes, if anywhere
//   a, a_digit, a_one   first factor: a register (its low four bits replaced by the digit of u2), or 1
//   b, b_digit, b_from  second factor: likewise, or a constant, or a coordinate of (byte of u1)·G
//   c, c_from …         third operand: none, a register or 7; negated; doubled
//   next, target        which word comes next; conditions on the result, the digits or the loop counter
//   count               load the counter with `target`. The counter also says which byte of u1 and u2 is the current one
//   out                 keep the result as X or Y of the public key; `y` and `no_key` end the program
`include "microcode.vh"
`default_nettype none
module secp256k1_points #(
    parameter CONTEXTS = 21,
    parameter SIDE_BITS = 1
) (
    input  wire                 clk,
    input  wire                 rst,
    input  wire                 in_valid,
    output wire                 in_ready,
    input  wire [255:0]         in_u1,
    input  wire [255:0]         in_u2,
    input  wire [255:0]         in_r,
    input  wire                 in_parity,
    input  wire [SIDE_BITS-1:0] in_side,
    output reg                  out_valid,
    input  wire                 out_ready,
    output reg                  out_ok,
    output reg  [255:0]         out_x,
    output reg  [255:0]         out_y,
    output reg  [SIDE_BITS-1:0] out_side
);
    localparam THREE_HALVES = 256'h7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF7FFFFE19;
    localparam CTX = 5;  // bits of a context's number
    localparam PC = 9;
    // Clocks from a turn's start to the write of its result, and to the write of its context's state.
    localparam WRITE = 19, STATE = 21;
    // The state is read in the turn's first clock, so it must have been written before.
    localparam CONTEXTS_MIN = STATE;
    generate
        if (CONTEXTS < CONTEXTS_MIN || CONTEXTS > 32) begin : contexts_out_of_range
            CONTEXTS_must_be_from_21_to_32 error();
        end
    endgenerate

    integer k;

    // Each context's state.
    reg [CONTEXTS-1:0] running, finished;
    reg [PC-1:0] pc_of [0:31];
    reg [7:0] count_of [0:31];
    reg [255:0] u1_of [0:31];
    reg [255:0] u2_of [0:31];
    reg parity_of [0:31];
    reg [SIDE_BITS-1:0] side_of [0:31];
    reg [255:0] x_of [0:31];
    reg [255:0] y_of [0:31];
    reg ok_of [0:31];

    // 0: whose turn it is, and what it may do: run a word, or, idle, claim the waiting request.
    reg [CTX-1:0] turn;
    reg claimed;
    wire idle = !running[turn] && !finished[turn];
    wire claim = idle && in_valid && !claimed;
    always @(posedge clk) begin
        turn <= rst || turn == CONTEXTS - 1 ? {CTX{1'b0}} : turn + 1'b1;
    end

    // What later clocks need of a turn, in shift registers: bit or word i belongs to clock i.
    reg [STATE-1:1] run_at, claim_at;
    reg [CTX-1:0] turn_at [1:STATE-1];
    reg [PC-1:0] pc_at [1:STATE-1];
    reg [7:0] count_at [1:STATE-1];
    reg [`UC_WIDTH-1:0] word_at [2:STATE-1];
    always @(posedge clk) begin
        run_at <= rst ? {(STATE-1){1'b0}} : {run_at[STATE-2:1], running[turn]};
        claim_at <= rst ? {(STATE-1){1'b0}} : {claim_at[STATE-2:1], claim};
        turn_at[1] <= turn;
        pc_at[1] <= pc_of[turn];
        count_at[1] <= count_of[turn];
        for (k = 2; k < STATE; k = k + 1) begin
            turn_at[k] <= turn_at[k-1];
            pc_at[k] <= pc_at[k-1];
            count_at[k] <= count_at[k-1];
        end
        for (k = 3; k < STATE; k = k + 1) word_at[k] <= word_at[k-1];
    end

    // 1: fetch the word and the current bytes of the scalars.
    reg [`UC_WIDTH-1:0] microcode [0:511];
    initial begin
`include "microcode_rom.vh"
    end
    reg [255:0] u1_at_1, u2_at_1;
    reg [7:0] byte1, byte2;
    always @* begin
        u1_at_1 = u1_of[turn_at[1]];
        u2_at_1 = u2_of[turn_at[1]];
    end
    always @(posedge clk) begin
        word_at[2] <= microcode[pc_at[1]];
        byte1 <= u1_at_1[{count_at[1][4:0], 3'b000} +: 8];
        byte2 <= u2_at_1[{count_at[1][4:0], 3'b000} +: 8];
    end

    // 2: read the registers and the generator's multiple. Three copies of the register file give three read ports; each holds
    // 64 registers a context.
    reg [255:0] file_a [0:2047];
    reg [255:0] file_b [0:2047];
    reg [255:0] file_c [0:2047];
    reg [511:0] generator [0:255];
    initial begin
`include "generator_rom.vh"
    end
    wire [`UC_WIDTH-1:0] w2 = word_at[2];
    wire [3:0] digit = w2[`UC_NIBBLE] ? byte2[7:4] : byte2[3:0];
    wire [5:0] field_a = w2[`UC_A], field_b = w2[`UC_B];
    wire [5:0] reg_a = {field_a[5:4], w2[`UC_A_DIGIT] ? digit : field_a[3:0]};
    wire [5:0] reg_b = {field_b[5:4], w2[`UC_B_DIGIT] ? digit : field_b[3:0]};
    reg [255:0] read_a, read_b;
    reg [511:0] read_g;
    always @(posedge clk) begin
        read_a <= file_a[{turn_at[2], reg_a}];
        read_b <= file_b[{turn_at[2], reg_b}];
        read_g <= generator[byte1];
    end

    // 3: choose the factors.
    wire [`UC_WIDTH-1:0] w3 = word_at[3];
    wire [255:0] a = w3[`UC_A_ONE] ? 256'd1 : read_a;
    reg [255:0] b;
    always @* begin
        case (w3[`UC_B_FROM])
            `B_FROM_REG: b = read_b;
            `B_FROM_ONE: b = 256'd1;
            `B_FROM_THREE_HALVES: b = THREE_HALVES;
            `B_FROM_GX: b = read_g[511:256];
            `B_FROM_GY: b = read_g[255:0];
            default: b = 256'd0;
        endcase
    end

    // 10 and 11: the third operand, which the multiply-add wants eight clocks after the factors.
    wire [`UC_WIDTH-1:0] w10 = word_at[10], w11 = word_at[11];
    reg [255:0] read_c;
    always @(posedge clk) read_c <= file_c[{turn_at[10], w10[`UC_C]}];
    wire [255:0] c = w11[`UC_C_FROM] == `C_FROM_REG ? read_c : w11[`UC_C_FROM] == `C_FROM_SEVEN ? 256'd7 : 256'd0;
    wire [255:0] result;
    secp256k1_mac mac (
        .clk(clk), .a(a), .b(b), .c(c), .c_negative(w11[`UC_C_NEGATIVE]), .c_twice(w11[`UC_C_TWICE]), .d(result)
    );

    // 19 (WRITE): write the result. A claimed request's r is written here too, into the register in which the program expects
    // it; its other words go to the context's state.
    localparam [5:0] RX = 6'd1;
    wire [`UC_WIDTH-1:0] w19 = word_at[WRITE];
    wire claim_19 = claim_at[WRITE];
    wire [CTX-1:0] turn_19 = turn_at[WRITE];
    wire write = claim_19 || (run_at[WRITE] && w19[`UC_WRITE]);
    wire [CTX+5:0] write_to = {turn_19, claim_19 ? RX : w19[`UC_DST]};
    wire [255:0] written = claim_19 ? in_r : result;
    assign in_ready = claim_19;
    always @(posedge clk) begin
        if (write) begin
            file_a[write_to] <= written;
            file_b[write_to] <= written;
            file_c[write_to] <= written;
        end
        if (claim_19) begin
            u1_of[turn_19] <= in_u1;
            u2_of[turn_19] <= in_u2;
            parity_of[turn_19] <= in_parity;
            side_of[turn_19] <= in_side;
        end
        if (run_at[WRITE] && w19[`UC_OUT] == `OUT_X) x_of[turn_19] <= result;
        if (run_at[WRITE] && w19[`UC_OUT] == `OUT_Y) y_of[turn_19] <= result;
        if (rst) claimed <= 1'b0;
        else if (claim) claimed <= 1'b1;
        else if (claim_19) claimed <= 1'b0;
    end

    // Flags of the result and of the digits, for clock 20.
    reg zero, odd;
    reg skip_r_at [3:STATE-1], skip_g_at [3:STATE-1];
    always @(posedge clk) begin
        zero <= result == 256'd0;
        odd <= result[0];
        skip_r_at[3] <= digit == 4'd0;
        skip_g_at[3] <= byte1 == 8'd0;
        for (k = 4; k < STATE; k = k + 1) begin
            skip_r_at[k] <= skip_r_at[k-1];
            skip_g_at[k] <= skip_g_at[k-1];
        end
    end

    // 20: what comes next.
    wire [`UC_WIDTH-1:0] w20 = word_at[20];
    wire [CTX-1:0] turn_20 = turn_at[20];
    wire ends = w20[`UC_OUT] == `OUT_Y || w20[`UC_OUT] == `OUT_NO_KEY;
    reg taken;
    always @* begin
        case (w20[`UC_NEXT])
            `NEXT_GO: taken = 1'b1;
            `NEXT_ZERO: taken = zero;
            `NEXT_NONZERO: taken = !zero;
            `NEXT_ODD: taken = odd != parity_of[turn_20];
            `NEXT_SKIP_R: taken = skip_r_at[20];
            `NEXT_SKIP_G: taken = skip_g_at[20];
            `NEXT_LOOP: taken = count_at[20] != 8'd0;
            default: taken = 1'b0;
        endcase
    end
    wire [PC-1:0] target = w20[`UC_TARGET];

    wire output_free = !out_valid || out_ready;
    wire take = finished[turn] && output_free;
    always @(posedge clk) begin
        if (claim_at[20]) begin
            pc_of[turn_20] <= {PC{1'b0}};
            count_of[turn_20] <= 8'd0;
        end else if (run_at[20]) begin
            pc_of[turn_20] <= taken ? target : pc_at[20] + 1'b1;
            if (w20[`UC_COUNT]) count_of[turn_20] <= target[7:0];
            else if (w20[`UC_NEXT] == `NEXT_LOOP && taken) count_of[turn_20] <= count_at[20] - 1'b1;
            if (ends) ok_of[turn_20] <= w20[`UC_OUT] == `OUT_Y;
        end

        if (claim_at[20]) running[turn_20] <= 1'b1;
        if (run_at[20] && ends) begin
            running[turn_20] <= 1'b0;
            finished[turn_20] <= 1'b1;
        end
        // Results leave in their context's turn.
        if (take) begin
            finished[turn] <= 1'b0;
            out_ok <= ok_of[turn];
            out_x <= x_of[turn];
            out_y <= y_of[turn];
            out_side <= side_of[turn];
        end
        out_valid <= take || (out_valid && !out_ready);
        if (rst) begin
            running <= {CONTEXTS{1'b0}};
            finished <= {CONTEXTS{1'b0}};
            out_valid <= 1'b0;
        end
    end
endmodule
`default_nettype wire
