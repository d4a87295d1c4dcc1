// Runs one service for the tests of a file, which imports this module.
import { after } from "node:test";
import { serve } from "./service.mjs";

export const service = await serve();
export const { baseURL } = service;

after(() => service.stop());
