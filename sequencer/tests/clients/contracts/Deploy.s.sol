// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {Counter} from "../src/Counter.sol";

/// The two cheat codes of forge that the script needs.
interface Vm {
    function startBroadcast() external;
    function stopBroadcast() external;
}

contract Deploy {
    Vm private constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    bool public constant IS_SCRIPT = true;

    function run() external {
        VM.startBroadcast();
        Counter counter = new Counter(1);
        counter.increase(41);
        VM.stopBroadcast();
        require(counter.value() == 42, "the counter does not hold 42");
    }
}
