/** A template does what it may not: Jinja would raise, or it is not supported here. */
export class TemplateFailure extends Error {}
