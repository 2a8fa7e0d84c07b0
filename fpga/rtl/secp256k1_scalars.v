// u1 = −z / r and u2 = s / r modulo the group order n: both divisions at once by the binary extended Euclidean algorithm,
// without a multiplier.
//
// In:  1 ≤ r, s < n; z any 256 bits. Taken when `in_valid` and `in_ready`. `in_side` travels along unchanged.
// Out: u1, u2 < n, held while `out_valid` until `out_ready`.
//
// Invariants: r·x1 ≡ s·u and r·x2 ≡ s·v, likewise y1 and y2 with −z for s; v is odd. Each round makes u even by taking v from
// it (after a swap if v is greater) and halves it, so u + v loses a bit at least each round: at most 512 rounds. At u = 0,
// v = gcd(r, n) = 1. A round with subtraction takes five clocks and one without takes one, since no 256-bit carry chain feeds
// another one within a clock.
`default_nettype none
module secp256k1_scalars #(
    parameter SIDE_BITS = 1
) (
    input  wire                 clk,
    input  wire                 rst,
    input  wire                 in_valid,
    output wire                 in_ready,
    input  wire [255:0]         in_z,
    input  wire [255:0]         in_r,
    input  wire [255:0]         in_s,
    input  wire [SIDE_BITS-1:0] in_side,
    output wire                 out_valid,
    input  wire                 out_ready,
    output wire [255:0]         out_u1,
    output wire [255:0]         out_u2,
    output reg  [SIDE_BITS-1:0] out_side
);
    localparam [255:0] N = 256'hFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    localparam [3:0] IDLE = 0, REDUCE = 1, NEGATE = 2, COMPARE = 3, SWAP = 4, SUBTRACT = 5, MEND = 6, HALVE = 7, DONE = 8;
    reg [3:0] state;

    reg [255:0] u, v, x1, x2, y1, y2;
    reg x1_negative, y1_negative;
    reg less;

    assign in_ready = state == IDLE;
    assign out_valid = state == DONE;
    assign out_u1 = y2;
    assign out_u2 = x2;

    // Half of x modulo n.
    function [255:0] half(input [255:0] x);
        reg [256:0] even;
        begin
            even = {1'b0, x} + (x[0] ? {1'b0, N} : 257'b0);
            half = even[256:1];
        end
    endfunction

    wire [255:0] u_half = {1'b0, u[255:1]};
    wire [256:0] z_less_n = {1'b0, y1} - {1'b0, N};

    always @(posedge clk) begin
        case (state)
            IDLE: if (in_valid) begin
                u <= in_r;
                v <= N;
                x1 <= in_s;
                x2 <= 256'b0;
                y1 <= in_z;
                y2 <= 256'b0;
                out_side <= in_side;
                state <= REDUCE;
            end
            // 2^256 < 2n, so one subtraction brings z below n.
            REDUCE: begin
                if (!z_less_n[256]) y1 <= z_less_n[255:0];
                state <= NEGATE;
            end
            NEGATE: begin
                x1_negative <= 1'b0;
                y1_negative <= y1 != 256'b0;
                y1 <= 256'b0 - y1;
                state <= MEND;
            end
            COMPARE: begin
                less <= u < v;
                state <= SWAP;
            end
            SWAP: begin
                if (less) begin
                    {u, v} <= {v, u};
                    {x1, x2} <= {x2, x1};
                    {y1, y2} <= {y2, y1};
                end
                state <= SUBTRACT;
            end
            SUBTRACT: begin
                u <= u - v;
                {x1_negative, x1} <= {1'b0, x1} - {1'b0, x2};
                {y1_negative, y1} <= {1'b0, y1} - {1'b0, y2};
                state <= MEND;
            end
            MEND: begin
                if (x1_negative) x1 <= x1 + N;
                if (y1_negative) y1 <= y1 + N;
                state <= u == 256'b0 ? DONE : u[0] ? COMPARE : HALVE;
            end
            HALVE: begin
                u <= u_half;
                x1 <= half(x1);
                y1 <= half(y1);
                state <= u[1] ? COMPARE : HALVE;
            end
            DONE: if (out_ready) state <= IDLE;
            default: state <= IDLE;
        endcase
        if (rst) state <= IDLE;
    end
endmodule
`default_nettype wire
