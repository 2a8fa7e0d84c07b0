// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

/// An ERC-20 token of fixed layout, for benchmarks and tests: balances are slot 0, so that a genesis file can hand them out
/// without a transaction (slot of an account: keccak256(address as 32 bytes, then 32 zero bytes)).
contract Token {
    mapping(address account => uint256) public balanceOf; // slot 0
    mapping(address owner => mapping(address spender => uint256)) public allowance; // slot 1
    uint256 public totalSupply; // slot 2

    string public constant name = "Ironlane Bench Token";
    string public constant symbol = "IRON";
    uint8 public constant decimals = 18;

    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);

    /// The sender has less than the amount.
    error InsufficientBalance(address account, uint256 balance, uint256 needed);
    /// The spender may take less than the amount.
    error InsufficientAllowance(address spender, uint256 allowance, uint256 needed);
    /// The zero address receives nothing.
    error InvalidReceiver(address receiver);

    constructor(uint256 supply) {
        totalSupply = supply;
        balanceOf[msg.sender] = supply;
        emit Transfer(address(0), msg.sender, supply);
    }

    function transfer(address to, uint256 value) external returns (bool) {
        _move(msg.sender, to, value);
        return true;
    }

    function approve(address spender, uint256 value) external returns (bool) {
        allowance[msg.sender][spender] = value;
        emit Approval(msg.sender, spender, value);
        return true;
    }

    function transferFrom(address from, address to, uint256 value) external returns (bool) {
        uint256 allowed = allowance[from][msg.sender];
        if (allowed != type(uint256).max) {
            if (allowed < value) revert InsufficientAllowance(msg.sender, allowed, value);
            unchecked {
                allowance[from][msg.sender] = allowed - value;
            }
        }
        _move(from, to, value);
        return true;
    }

    function _move(address from, address to, uint256 value) private {
        if (to == address(0)) revert InvalidReceiver(to);
        uint256 balance = balanceOf[from];
        if (balance < value) revert InsufficientBalance(from, balance, value);
        unchecked {
            // No balance can overflow: together they are the supply.
            balanceOf[from] = balance - value;
            balanceOf[to] += value;
        }
        emit Transfer(from, to, value);
    }
}
