// One round of Keccak-f[1600] (FIPS 202, section 3.2), combinational. Lane (x, y) is at bit 64·(x + 5·y), its bits and bytes
// little-endian, so byte i of a message is at bit 8·i.
`default_nettype none
module keccak_round (
    input  wire [1599:0] state,
    input  wire [63:0]   constant,
    output wire [1599:0] next
);
    // Offsets of ρ, six bits each, lane 24 first.
    localparam [149:0] RHO = {6'd14, 6'd56, 6'd61, 6'd2,  6'd18, 6'd8,  6'd21, 6'd15, 6'd45, 6'd41, 6'd39, 6'd25, 6'd43,
                              6'd10, 6'd3,  6'd20, 6'd55, 6'd6,  6'd44, 6'd36, 6'd27, 6'd28, 6'd62, 6'd1,  6'd0};
    wire [319:0] parity, theta;
    wire [1599:0] moved, chi;
    genvar x, y;
    generate
        for (x = 0; x < 5; x = x + 1) begin : column
            assign parity[64*x +: 64] = state[64*x +: 64] ^ state[64*(x+5) +: 64] ^ state[64*(x+10) +: 64]
                                      ^ state[64*(x+15) +: 64] ^ state[64*(x+20) +: 64];
            wire [63:0] right = parity[64*((x+1)%5) +: 64];
            assign theta[64*x +: 64] = parity[64*((x+4)%5) +: 64] ^ {right[62:0], right[63]};
        end
        for (y = 0; y < 5; y = y + 1) begin : plane
            for (x = 0; x < 5; x = x + 1) begin : lane
                // ρ turns the lane and π moves it to (y, 2x + 3y).
                wire [127:0] twice = {2{state[64*(x+5*y) +: 64] ^ theta[64*x +: 64]}};
                localparam OFFSET = RHO[6*(x+5*y) +: 6];
                assign moved[64*(y + 5*((2*x+3*y)%5)) +: 64] = twice[64-OFFSET +: 64];
                assign chi[64*(x+5*y) +: 64] = moved[64*(x+5*y) +: 64]
                                             ^ (~moved[64*((x+1)%5+5*y) +: 64] & moved[64*((x+2)%5+5*y) +: 64]);
            end
        end
    endgenerate
    assign next = {chi[1599:64], chi[63:0] ^ constant};
endmodule
`default_nettype wire
