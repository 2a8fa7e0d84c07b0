// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

/// Checks what an Ironlane sequencer promised about one transaction. Every byte is laid out in docs/formats.md, section
/// "Promises". Pure functions: whoever holds a promise can call them from a contract of their own, or by eth_call.
contract PromiseVerifier {
    struct Header {
        uint64 height;
        bytes32 parent;
        uint64 blockNumber;
        uint64 firstSeq;
        uint32 txCount;
        uint64 timestampUs;
        bytes32 txsRoot;
    }

    struct Leaf {
        uint64 seq;
        bytes32 txHash;
        bool success;
        uint64 gasUsed;
        bytes32 logsHash;
    }

    /// r, s, parity as the sequencer gives them.
    struct Signature {
        bytes32 r;
        bytes32 s;
        uint8 parity;
    }

    bytes32 public constant DOMAIN = "ironlane mini-block v1";

    /// Half the order of secp256k1; a higher s is refused (EIP-2).
    uint256 private constant HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;

    /// What the sequencer signs.
    function digest(Header calldata h, uint64 chainId) public pure returns (bytes32) {
        return keccak256(
            abi.encodePacked(
                DOMAIN, chainId, h.height, h.parent, h.blockNumber, h.firstSeq, h.txCount, h.timestampUs, h.txsRoot
            )
        );
    }

    /// The leaf of a transaction.
    function leafHash(Leaf calldata l) public pure returns (bytes32) {
        uint8 status = l.success ? 1 : 0;
        return keccak256(abi.encodePacked(uint8(0), l.seq, l.txHash, status, l.gasUsed, l.logsHash));
    }

    /// Where a path leads, and whether it has exactly as many hashes as the leaf's place needs.
    function pathRoot(bytes32 leaf, uint64 index, uint64 count, bytes32[] calldata path)
        public
        pure
        returns (bytes32 node, bool complete)
    {
        node = leaf;
        uint256 used = 0;
        while (count > 1) {
            if (index ^ 1 < count) {
                if (used == path.length) return (node, false);
                bytes32 beside = path[used++];
                node = index & 1 == 0
                    ? keccak256(abi.encodePacked(uint8(1), node, beside))
                    : keccak256(abi.encodePacked(uint8(1), beside, node));
            }
            index >>= 1;
            count = (count + 1) >> 1;
        }
        complete = used == path.length;
    }

    /// Whether `sequencer` promised, on the chain `chainId`, this place and outcome of the transaction.
    function verify(
        Header calldata header,
        Leaf calldata leaf,
        bytes32[] calldata path,
        Signature calldata signature,
        uint64 chainId,
        address sequencer
    ) external pure returns (bool) {
        if (sequencer == address(0) || signature.parity > 1 || uint256(signature.s) > HALF_ORDER) return false;
        if (leaf.seq < header.firstSeq || leaf.seq - header.firstSeq >= header.txCount) return false;
        (bytes32 root, bool complete) = pathRoot(leafHash(leaf), leaf.seq - header.firstSeq, header.txCount, path);
        if (!complete || root != header.txsRoot) return false;
        return ecrecover(digest(header, chainId), 27 + signature.parity, signature.r, signature.s) == sequencer;
    }
}
