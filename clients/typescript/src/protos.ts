/** Every generated type and schema of the contract, including those that the client does not name. */
export * from "./gen/togetherchat/v1/chat_pb.js";
export * from "./gen/togetherchat/v1/chat_service_pb.js";
export * from "./gen/togetherchat/v1/models_pb.js";
export * from "./gen/togetherchat/v1/usage_service_pb.js";
