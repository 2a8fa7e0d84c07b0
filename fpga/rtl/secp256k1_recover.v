// The signer's public key of an ECDSA signature over secp256k1 (SEC 1, section 4.1.6, with R.x = r, as Ethereum has it):
// Q = (s·R − z·G) / r.
//
// In:  hash, r, s, v as the ring's entry carries them, any values; `any_s` allows s above (n − 1) / 2. Taken when `in_valid` and
//      `in_ready`; held until then. `in_side` travels along.
// Out: a status of the ring ABI and, where it is OK, the key; held while `out_valid` until `out_ready`. Answers overtake one
//      another.
//
// Three parts work at the same time: the checks of ranges (one clock), the two divisions modulo n (secp256k1_scalars.v) and
// the point arithmetic (secp256k1_points.v), which sets the pace.
`include "status.vh"
`default_nettype none
module secp256k1_recover #(
    parameter CONTEXTS = 21,
    parameter SIDE_BITS = 1
) (
    input  wire                 clk,
    input  wire                 rst,
    input  wire                 in_valid,
    output wire                 in_ready,
    input  wire [255:0]         in_hash,
    input  wire [255:0]         in_r,
    input  wire [255:0]         in_s,
    input  wire [7:0]           in_v,
    input  wire                 in_any_s,
    input  wire [SIDE_BITS-1:0] in_side,
    output reg                  out_valid,
    input  wire                 out_ready,
    output reg  [15:0]          out_status,
    output reg  [255:0]         out_x,
    output reg  [255:0]         out_y,
    output reg  [SIDE_BITS-1:0] out_side
);
    localparam [255:0] N = 256'hFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
    localparam [255:0] N_HALF = {1'b0, N[255:1]};

    // Checked: the request's registers with the verdict. A bad one goes straight to the exit.
    reg held, good;
    reg [15:0] verdict;
    reg [255:0] hash, r, s;
    reg parity;
    reg [SIDE_BITS-1:0] side;
    wire scalars_ready, bad_leaves;
    wire exit_free = !out_valid || out_ready;
    wire leaves = held && (good ? scalars_ready : bad_leaves);
    assign in_ready = !held || leaves;
    wire [15:0] verdict_in = in_v > 8'd1                           ? `STATUS_BAD_PARITY
                           : in_r == 256'd0 || in_r >= N           ? `STATUS_BAD_R
                           : in_s == 256'd0 || in_s >= N           ? `STATUS_BAD_S
                           : in_s > N_HALF && !in_any_s            ? `STATUS_HIGH_S
                                                                   : `STATUS_OK;
    always @(posedge clk) begin
        if (in_valid && in_ready) begin
            good <= verdict_in == `STATUS_OK;
            verdict <= verdict_in;
            hash <= in_hash;
            r <= in_r;
            s <= in_s;
            parity <= in_v[0];
            side <= in_side;
        end
        held <= !rst && ((in_valid && in_ready) || (held && !leaves));
    end

    wire u_valid, u_ready, u_parity;
    wire [255:0] u1, u2, u_r;
    wire [SIDE_BITS-1:0] u_side;
    secp256k1_scalars #(.SIDE_BITS(SIDE_BITS + 257)) scalars (
        .clk(clk), .rst(rst),
        .in_valid(held && good), .in_ready(scalars_ready),
        .in_z(hash), .in_r(r), .in_s(s), .in_side({side, parity, r}),
        .out_valid(u_valid), .out_ready(u_ready),
        .out_u1(u1), .out_u2(u2), .out_side({u_side, u_parity, u_r})
    );

    wire q_valid, q_ok;
    wire [255:0] q_x, q_y;
    wire [SIDE_BITS-1:0] q_side;
    secp256k1_points #(.CONTEXTS(CONTEXTS), .SIDE_BITS(SIDE_BITS)) points (
        .clk(clk), .rst(rst),
        .in_valid(u_valid), .in_ready(u_ready),
        .in_u1(u1), .in_u2(u2), .in_r(u_r), .in_parity(u_parity), .in_side(u_side),
        .out_valid(q_valid), .out_ready(exit_free),
        .out_ok(q_ok), .out_x(q_x), .out_y(q_y), .out_side(q_side)
    );

    // The exit: keys first, refusals when there is none.
    assign bad_leaves = exit_free && !q_valid;
    wire bad_waits = held && !good;
    always @(posedge clk) begin
        if (exit_free) begin
            out_status <= !q_valid ? verdict : q_ok ? `STATUS_OK : `STATUS_NO_KEY;
            out_x <= q_valid && q_ok ? q_x : 256'd0;
            out_y <= q_valid && q_ok ? q_y : 256'd0;
            out_side <= q_valid ? q_side : side;
        end
        out_valid <= !rst && (exit_free ? q_valid || bad_waits : 1'b1);
    end
endmodule
`default_nettype wire
