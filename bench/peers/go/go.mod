module krypton.ai/bench/gateway

go 1.24
