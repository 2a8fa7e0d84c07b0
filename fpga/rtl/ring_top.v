// A card behind the rings of the offload ABI (docs/offload-abi.md): takes 128-byte submissions, gives 128-byte completions.
//
// Around it stands a bridge to the host (PCIe, or the simulation), which
//   - presents the words of the host page that the host wrote last (`host_…`) and shows the words of the card page (`card_…`);
//   - reads submission `fetch_slot` of the host's ring when `fetch_valid` and `fetch_ready`, and delivers it, in the order
//     asked, as `fetched`; `sq_tail` must be read before the entries that it announces;
//   - writes `write_entry` to slot `write_slot` of the completion ring when `write_valid` and `write_ready`, its last 32 bits,
//     the seal, after all others.
//
//   fetch ──► check ──► RECOVER ──► ENGINES × secp256k1_recover ──┐
//                 └──► NOP, KECCAK, and what is refused ──────────┴─► keccak256 ──► completion
//
// Every completion passes the one hash unit, wanted or not: at 25 clocks a hash it is faster than all the engines, and there is
// one way out instead of two. Completions overtake one another. When the host leaves completions unread the way out stops,
// then the engines, then the fetching: nothing is dropped.
`include "status.vh"
`default_nettype none
module ring_top #(
    parameter ENGINES = 2,
    parameter CONTEXTS = 21,
    parameter CLOCK_NS = 4
) (
    input  wire          clk,
    input  wire          rst,
    input  wire [31:0]   host_command,
    input  wire [31:0]   host_epoch,
    input  wire [31:0]   host_entries_log2,
    input  wire [31:0]   host_sq_tail,
    input  wire [31:0]   host_cq_head,
    output wire [31:0]   card_state,
    output reg  [31:0]   card_epoch,
    output reg  [31:0]   card_fault,
    output reg  [31:0]   card_sq_head,
    output reg  [63:0]   card_completed,
    output wire          card_idle,
    output wire          fetch_valid,
    input  wire          fetch_ready,
    output wire [15:0]   fetch_slot,
    input  wire          fetched_valid,
    output wire          fetched_ready,
    input  wire [1023:0] fetched,
    output reg           write_valid,
    input  wire          write_ready,
    output reg  [15:0]   write_slot,
    output reg  [1023:0] write_entry
);
    localparam [31:0] COMMAND_RESET = 1, COMMAND_RUN = 2, COMMAND_STOP = 3;
    localparam [2:0] IDLE = 1, RUNNING = 2, FAILED = 3, RESETTING = 4, STOPPING = 5;
    // Vendor's codes of `card_fault`.
    localparam [31:0] FAULT_RING_SIZE = 1, FAULT_DOORBELL = 2;
    localparam [2:0] OUTSTANDING_MAX = 4;

    // 256-bit numbers are big-endian in entries.
    function [255:0] swapped(input [255:0] x);
        integer i;
        for (i = 0; i < 32; i = i + 1) swapped[8*i +: 8] = x[8*(31-i) +: 8];
    endfunction

    // ---- Commands ----

    reg [2:0] state;
    reg [4:0] log2;
    reg [2:0] outstanding;
    reg [31:0] clocks;
    wire [31:0] mask = (32'd1 << log2) - 32'd1;
    wire running = state == RUNNING;
    wire clear = rst || state == RESETTING;
    wire log2_fits = host_entries_log2 >= 32'd1 && host_entries_log2 <= 32'd16;
    wire doorbell_fits = host_sq_tail - card_sq_head <= mask + 32'd1;
    assign card_state = state == RUNNING || state == STOPPING ? 32'd2 : state == FAILED ? 32'd3 : 32'd1;
    always @(posedge clk) begin
        clocks <= clocks + 32'd1;
        case (state)
            // What the bridge still has to deliver or to write belongs to the old epoch; only then are the rings the host's again.
            RESETTING: if (outstanding == 3'd0 && !write_valid) begin
                card_epoch <= host_epoch;
                card_fault <= 32'd0;
                state <= IDLE;
            end
            IDLE: if (host_command == COMMAND_RUN) begin
                log2 <= host_entries_log2[4:0];
                state <= log2_fits ? RUNNING : FAILED;
                if (!log2_fits) card_fault <= FAULT_RING_SIZE;
            end
            RUNNING: if (!doorbell_fits) begin
                card_fault <= FAULT_DOORBELL;
                state <= FAILED;
            end else if (host_command == COMMAND_STOP) state <= STOPPING;
            default: ;
        endcase
        if (host_command == COMMAND_RESET && host_epoch != card_epoch && state != RESETTING && state != FAILED)
            state <= RESETTING;
        if (rst) begin
            state <= IDLE;
            card_epoch <= 32'd0;
            card_fault <= 32'd0;
            log2 <= 5'd1;
            clocks <= 32'd0;
        end
    end

    // ---- Fetch ----

    reg [31:0] asked;  // entries asked for since the reset
    wire entry_ready;
    wire asks = fetch_valid && fetch_ready;
    wire arrives = fetched_valid && fetched_ready;
    assign fetch_valid = running && doorbell_fits && asked != host_sq_tail && outstanding < OUTSTANDING_MAX;
    assign fetch_slot = asked[15:0] & mask[15:0];
    assign fetched_ready = clear || entry_ready;
    always @(posedge clk) begin
        asked <= clear ? 32'd0 : asked + {31'd0, asks};
        card_sq_head <= clear ? 32'd0 : card_sq_head + {31'd0, arrives};
        outstanding <= rst ? 3'd0 : outstanding + {2'd0, asks} - {2'd0, arrives};
    end

    // ---- Check. The entry's own mistakes come first; the engines look at the signature. ----

    wire [15:0] in_op = fetched[79:64], in_flags = fetched[95:80];
    wire [31:0] in_epoch = fetched[127:96];
    wire [7:0] in_v = fetched[903:896];
    wire [31:0] in_seal = fetched[1023:992];
    wire in_phase = ~card_sq_head[log2];
    wire [15:0] verdict = fetched[991:904] != 88'd0 || in_seal != {31'd0, in_phase}             ? `STATUS_MALFORMED
                        : in_epoch != card_epoch                                                ? `STATUS_STALE_EPOCH
                        : in_op > `OP_KECCAK                                                    ? `STATUS_BAD_OP
                        : (in_flags & ~(in_op == `OP_RECOVER ? `FLAG_ANY_S : 16'd0)) != 16'd0   ? `STATUS_BAD_FLAGS
                        : in_op == `OP_KECCAK && in_v > 8'd96                                   ? `STATUS_BAD_LENGTH
                                                                                                : `STATUS_OK;
    reg held, to_engine;
    reg [15:0] status;
    reg [1023:0] entry;
    reg [31:0] taken_at;
    wire leaves;
    assign entry_ready = !held || leaves;
    always @(posedge clk) begin
        if (arrives) begin
            entry <= fetched;
            status <= verdict;
            to_engine <= verdict == `STATUS_OK && in_op == `OP_RECOVER;
            taken_at <= clocks;
        end
        held <= !clear && (arrives || (held && !leaves));
    end

    // ---- Engines. Requests go round; so do answers. Source ENGINES is the direct way of what needs no engine. ----

    localparam SIDE = 96;  // clock at which the entry was taken, tag
    localparam SOURCES = ENGINES + 1;
    wire [ENGINES-1:0] engine_ready, engine_takes;
    wire [SOURCES-1:0] source_valid, source_takes;
    wire [16*ENGINES-1:0] engine_status;
    wire [512*ENGINES-1:0] engine_key;
    wire [SIDE*ENGINES-1:0] engine_side;
    genvar e;
    generate
        for (e = 0; e < ENGINES; e = e + 1) begin : engine
            wire [255:0] x, y;
            secp256k1_recover #(.CONTEXTS(CONTEXTS), .SIDE_BITS(SIDE)) recover (
                .clk(clk), .rst(clear),
                .in_valid(engine_takes[e]), .in_ready(engine_ready[e]),
                .in_hash(swapped(entry[383:128])), .in_r(swapped(entry[639:384])), .in_s(swapped(entry[895:640])),
                .in_v(entry[903:896]), .in_any_s(entry[80]), .in_side({taken_at, entry[63:0]}),
                .out_valid(source_valid[e]), .out_ready(source_takes[e]),
                .out_status(engine_status[16*e +: 16]), .out_x(x), .out_y(y), .out_side(engine_side[SIDE*e +: SIDE])
            );
            assign engine_key[512*e +: 512] = {swapped(y), swapped(x)};
        end
    endgenerate

    reg [7:0] next_engine;
    reg [ENGINES-1:0] chosen;
    integer k;
    always @* begin
        chosen = {ENGINES{1'b0}};
        // The last that matches wins: the wanted engine if it is free, else the lowest free one.
        for (k = ENGINES - 1; k >= 0; k = k - 1) if (engine_ready[k]) chosen = {{(ENGINES-1){1'b0}}, 1'b1} << k;
        for (k = 0; k < ENGINES; k = k + 1)
            if (next_engine == k[7:0] && engine_ready[k]) chosen = {{(ENGINES-1){1'b0}}, 1'b1} << k;
    end
    assign engine_takes = held && to_engine ? chosen : {ENGINES{1'b0}};
    always @(posedge clk) begin
        if (clear) next_engine <= 8'd0;
        else if (engine_takes != {ENGINES{1'b0}}) next_engine <= next_engine == ENGINES - 1 ? 8'd0 : next_engine + 8'd1;
    end
    assign source_valid[ENGINES] = held && !to_engine;
    assign leaves = to_engine ? engine_takes != {ENGINES{1'b0}} : source_takes[ENGINES];

    // ---- The way out: one source at a time, by turns, into the hash unit ----

    reg [7:0] next_source, source;
    reg any;
    always @* begin
        any = source_valid != {SOURCES{1'b0}};
        source = 8'd0;
        for (k = SOURCES - 1; k >= 0; k = k - 1) if (source_valid[k]) source = k[7:0];
        // Sources from the wanted one on come before those below it.
        for (k = SOURCES - 1; k >= 0; k = k - 1) if (source_valid[k] && k[7:0] >= next_source) source = k[7:0];
    end
    wire direct = source == ENGINES;
    wire hash_ready;
    assign source_takes = any && hash_ready ? {{(SOURCES-1){1'b0}}, 1'b1} << source : {SOURCES{1'b0}};
    always @(posedge clk) begin
        if (clear) next_source <= 8'd0;
        else if (any && hash_ready) next_source <= direct ? 8'd0 : source + 8'd1;
    end

    reg [15:0] out_status;
    reg [511:0] out_key;
    reg [SIDE-1:0] out_side;
    always @* begin
        out_status = status;
        out_key = 512'd0;
        out_side = {taken_at, entry[63:0]};
        for (k = 0; k < ENGINES; k = k + 1) begin
            if (source == k[7:0]) begin
                out_status = engine_status[16*k +: 16];
                out_key = engine_key[512*k +: 512];
                out_side = engine_side[SIDE*k +: SIDE];
            end
        end
    end
    wire [15:0] out_op = direct ? entry[79:64] : `OP_RECOVER;
    wire [31:0] out_epoch = direct ? entry[127:96] : card_epoch;

    localparam LAST_SIDE = 16 + 16 + 32 + 512 + SIDE;
    wire hashed_valid, hashed_ready;
    wire [255:0] digest;
    wire [15:0] last_status, last_op;
    wire [31:0] last_epoch, last_taken_at;
    wire [63:0] last_tag;
    wire [511:0] last_key;
    keccak256 #(.BLOCKS_MAX(1), .ROUNDS_PER_STAGE(1), .FOLDED(1), .SIDE_BITS(LAST_SIDE), .LENGTH_BITS(8)) hash (
        .clk(clk), .rst(clear),
        .in_valid(any), .in_ready(hash_ready),
        .in_message(direct ? {320'd0, entry[895:128]} : {576'd0, out_key}),
        .in_bytes(direct ? entry[903:896] : 8'd64),
        .in_side({out_status, out_op, out_epoch, out_key, out_side}),
        .out_valid(hashed_valid), .out_ready(hashed_ready), .out_digest(digest),
        .out_side({last_status, last_op, last_epoch, last_key, last_taken_at, last_tag})
    );

    // ---- Completion ----

    reg [31:0] cq_tail;
    wire room = cq_tail - host_cq_head <= mask;
    assign hashed_ready = room && (!write_valid || write_ready);
    wire [31:0] in_card_ns = (clocks - last_taken_at) * CLOCK_NS;
    wire is_key = last_status == `STATUS_OK && last_op == `OP_RECOVER;
    wire is_digest = last_status == `STATUS_OK && last_op == `OP_KECCAK;
    always @(posedge clk) begin
        if (hashed_valid && hashed_ready && !clear) begin
            write_slot <= cq_tail[15:0] & mask[15:0];
            write_entry <= {
                31'd0, ~cq_tail[log2],
                160'd0,
                in_card_ns,
                is_key ? digest[255:96] : 160'd0,
                is_key ? last_key : is_digest ? {256'd0, digest} : 512'd0,
                last_epoch, last_op, last_status, last_tag
            };
        end
        write_valid <= !rst && ((hashed_valid && hashed_ready && !clear) || (write_valid && !write_ready));
        cq_tail <= clear ? 32'd0 : cq_tail + {31'd0, hashed_valid && hashed_ready};
        card_completed <= rst ? 64'd0 : card_completed + {63'd0, hashed_valid && hashed_ready && !clear};
    end
    // Nothing is on its way: every entry asked for was completed and written.
    assign card_idle = cq_tail == asked && !write_valid;
endmodule
`default_nettype wire
