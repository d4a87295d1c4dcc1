/** Every generated type and schema of the contract, for whoever needs more than the client names. */
export * from "./gen/togetherchat/v1/chat_pb.js";
export * from "./gen/togetherchat/v1/chat_service_pb.js";
export * from "./gen/togetherchat/v1/models_pb.js";
