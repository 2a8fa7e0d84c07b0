// d = a·b + c, a·b − c or a·b − 2c modulo p = 2^256 − 2^32 − 977, one result a clock.
//
// In:  a, b, c < p. `c`, `c_negative` and `c_twice` are wanted eight clocks after `a` and `b`: a register file can read
//      them late, and no 256-bit value has to wait here. `c_twice` is used with `c_negative` or alone.
// Out: d < p, sixteen clocks after `a` and `b`.
//
// The product is schoolbook: ten limbs of 26 bits by sixteen of 16 bits, each pair one DSP48E2 (27 × 18 signed), summed in a
// tree. Reduction folds the upper half twice with 2^256 ≡ K = 2^32 + 977 and subtracts p at most once. No carry chain is
// longer than 320 bits. There is no reset: nothing here is state, and whoever issues knows which clock is whose.
`default_nettype none
module secp256k1_mac (
    input  wire         clk,
    input  wire [255:0] a,
    input  wire [255:0] b,
    input  wire [255:0] c,
    input  wire         c_negative,
    input  wire         c_twice,
    output reg  [255:0] d
);
    localparam A_LIMBS = 10, A_BITS = 26;
    localparam B_LIMBS = 16, B_BITS = 16;
    localparam M_BITS = A_BITS + B_BITS;
    localparam ROW_BITS = 256 + B_BITS;
    localparam [255:0] P = 256'hFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFC2F;
    localparam [32:0] K = 33'h1000003D1;

    // 1: the DSPs' input registers.
    reg [A_LIMBS*A_BITS-1:0] a_q;
    reg [255:0] b_q;
    always @(posedge clk) begin
        a_q <= {{(A_LIMBS*A_BITS-256){1'b0}}, a};
        b_q <= b;
    end

    // 2 and 3: products, with the DSPs' M and P registers. 4: a row is a times one limb of b. Products of even limbs do not
    // overlap one another, nor do those of odd limbs, so a row is one addition.
    wire [B_LIMBS*ROW_BITS-1:0] rows;
    genvar i, j;
    generate
        for (j = 0; j < B_LIMBS; j = j + 1) begin : row
            wire [A_LIMBS*M_BITS-1:0] products;
            for (i = 0; i < A_LIMBS; i = i + 1) begin : limb
                reg [M_BITS-1:0] m, p;
                always @(posedge clk) begin
                    m <= a_q[i*A_BITS +: A_BITS] * b_q[j*B_BITS +: B_BITS];
                    p <= m;
                end
                assign products[i*M_BITS +: M_BITS] = p;
            end
            wire [5*2*A_BITS-1:0] even, odd;
            for (i = 0; i < A_LIMBS/2; i = i + 1) begin : halves
                assign even[i*2*A_BITS +: 2*A_BITS] = {{(A_BITS-B_BITS){1'b0}}, products[2*i*M_BITS +: M_BITS]};
                assign odd[i*2*A_BITS +: 2*A_BITS] = {{(A_BITS-B_BITS){1'b0}}, products[(2*i+1)*M_BITS +: M_BITS]};
            end
            wire [5*2*A_BITS+A_BITS:0] total = {{(A_BITS+1){1'b0}}, even} + {1'b0, odd, {A_BITS{1'b0}}};
            reg [ROW_BITS-1:0] sum;
            always @(posedge clk) sum <= total[ROW_BITS-1:0];
            assign rows[j*ROW_BITS +: ROW_BITS] = sum;
        end
    endgenerate

    // 5 to 9: the tree. Each level adds neighbours and keeps the lower one's lowest limb as it is.
    wire [8*288-1:0] by32;
    wire [4*320-1:0] by64;
    wire [2*384-1:0] by128;
    generate
        for (j = 0; j < 8; j = j + 1) begin : add32
            wire [271:0] low = rows[2*j*272 +: 272], high = rows[(2*j+1)*272 +: 272];
            reg [287:0] sum;
            always @(posedge clk) sum <= {{16'b0, low[271:16]} + high, low[15:0]};
            assign by32[j*288 +: 288] = sum;
        end
        for (j = 0; j < 4; j = j + 1) begin : add64
            wire [287:0] low = by32[2*j*288 +: 288], high = by32[(2*j+1)*288 +: 288];
            reg [319:0] sum;
            always @(posedge clk) sum <= {{32'b0, low[287:32]} + high, low[31:0]};
            assign by64[j*320 +: 320] = sum;
        end
        for (j = 0; j < 2; j = j + 1) begin : add128
            wire [319:0] low = by64[2*j*320 +: 320], high = by64[(2*j+1)*320 +: 320];
            reg [383:0] sum;
            always @(posedge clk) sum <= {{64'b0, low[319:64]} + high, low[63:0]};
            assign by128[j*384 +: 384] = sum;
        end
    endgenerate
    reg [127:0] bottom;
    reg [256:0] middle;
    reg [127:0] top;
    reg [511:0] product;
    always @(posedge clk) begin
        bottom <= by128[127:0];
        middle <= {1'b0, by128[383:128]} + {1'b0, by128[384 +: 256]};
        top <= by128[384+256 +: 128];
        product <= {top + {127'b0, middle[256]}, middle[255:0], bottom};
    end

    // 9 and 10, beside the product: the third operand, made positive.
    reg [255:0] c_signed;
    reg c_twice_q;
    reg [256:0] c_term;
    always @(posedge clk) begin
        c_signed <= c_negative ? P - c : c;
        c_twice_q <= c_twice;
        c_term <= c_twice_q ? {c_signed, 1'b0} : {1'b0, c_signed};
    end

    // 10 to 12: first fold, low + high·(2^32 + 977), where 977 = 1024 + 1 − 48. Below 2^289.
    wire [255:0] low = product[255:0], high = product[511:256];
    reg [288:0] shifted, shifted_c;
    reg [266:0] times1025;
    reg [261:0] times48;
    reg [266:0] times977;
    reg [289:0] folded;
    always @(posedge clk) begin
        shifted <= {33'b0, low} + {1'b0, high, 32'b0};
        times1025 <= {1'b0, high, 10'b0} + {11'b0, high};
        times48 <= {1'b0, high, 5'b0} + {2'b0, high, 4'b0};
        shifted_c <= shifted + {32'b0, c_term};
        times977 <= times1025 - {5'b0, times48};
        folded <= {1'b0, shifted_c} + {23'b0, times977};
    end

    // 13 and 14: second fold, of at most 34 bits. Below 2^256 + 2^67.
    reg [255:0] low2;
    reg [66:0] high2;
    reg [256:0] nearly;
    always @(posedge clk) begin
        low2 <= folded[255:0];
        high2 <= {1'b0, folded[289:256], 32'b0} + {33'b0, folded[289:256]} * 67'd977;
        nearly <= {1'b0, low2} + {190'b0, high2};
    end

    // 15 and 16: nearly − p = nearly + K − 2^256; nearly ≥ p exactly when nearly + K reaches 2^256.
    reg [256:0] nearly_q;
    reg [257:0] less_p;
    always @(posedge clk) begin
        nearly_q <= nearly;
        less_p <= {1'b0, nearly} + {225'b0, K};
        d <= less_p[257:256] != 2'b00 ? less_p[255:0] : nearly_q[255:0];
    end
endmodule
`default_nettype wire
