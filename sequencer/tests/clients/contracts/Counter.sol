// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

/// A contract small enough to deploy in each test and rich enough to write, read, log and revert.
contract Counter {
    event Increased(address indexed by, uint256 newValue);

    error TooMuch(uint256 asked, uint256 most);

    uint256 public value;

    constructor(uint256 start) {
        value = start;
    }

    function increase(uint256 by) external returns (uint256) {
        if (by > 1000) revert TooMuch(by, 1000);
        value += by;
        emit Increased(msg.sender, value);
        return value;
    }
}
